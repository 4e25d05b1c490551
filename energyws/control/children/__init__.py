"""Child processes and their listening sockets: started, watched, sent messages, ended."""
