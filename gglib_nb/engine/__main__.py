"""`python -m gglib_nb.engine` runs the engine process; the kernel starts it through `client`."""

import os

from gglib_nb.engine.main import main

if __name__ == "__main__":
    main(os.getppid())
