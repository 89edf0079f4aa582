//! imsgcnv and omsgcnv: conversion of what came from the Internet, and of what goes there.
