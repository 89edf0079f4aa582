/* with-tun NAME PROGRAM ...: runs PROGRAM with the tun device NAME as its standard input. Rust needs unsafe for this
 * one call, and the project has none. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/if.h>
#include <linux/if_tun.h>

int main(int count, char **words) {
    struct ifreq request;
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (count < 3) return 2;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, words[1], IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) || dup2(tun, 0)) {
        perror("with-tun: /dev/net/tun");
        return 1;
    }
    close(tun);
    execvp(words[2], words + 2);
    perror(words[2]);
    return 1;
}
