// Looks again every few seconds, and puts what it sees in the place of what stands there. The server has made all of it
// text that did not come from itself, here as for the page without a script; what is parsed like this is never run.
'use strict';
{
    const EVERY = 5000;
    const note = document.getElementById('note');
    const main = document.querySelector('main');
    const footer = document.querySelector('footer');

    const isRead = () => {
        const selection = document.getSelection();
        return selection !== null && !selection.isCollapsed && main.contains(selection.anchorNode);
    };

    const look = async () => {
        // Who has marked something wants to copy it.
        if (document.hidden || isRead()) {
            return;
        }
        try {
            const answer = await fetch(location.href, {cache: 'no-store', signal: AbortSignal.timeout(10000)});
            if (!answer.ok) {
                throw new Error(`${answer.status} ${answer.statusText}`);
            }
            const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
            main.replaceChildren(...page.querySelector('main').childNodes);
            footer.replaceChildren(...page.querySelector('footer').childNodes);
            note.textContent = '';
        } catch (error) {
            note.textContent = `This is no longer up to date: ${error.message}`;
        }
    };

    const again = () => look().finally(() => setTimeout(again, EVERY));
    setTimeout(again, EVERY);
    document.addEventListener('visibilitychange', look);
}
