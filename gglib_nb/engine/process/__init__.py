"""The engine process and its client in the kernel: start and end, commands in, events out. Moves no bytes itself."""
