"""`python -m gglib_nb.engine`: the engine process by hand; the kernel starts it by `client`."""

import os

from gglib_nb.engine.main import main

if __name__ == "__main__":
    main(os.getppid())
