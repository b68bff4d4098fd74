// Something to compile: what is wanted of this library are its precompiled headers.
