"""Many sends in one system call, by io_uring (io_uring(7)), with the standard library alone."""
