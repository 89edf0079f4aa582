//! imsgcnv and omsgcnv: conversion of what came from the Internet, and of what goes there.

pub mod field;
pub mod from_internet;
pub mod to_internet;
