"""`python -m cuvee` is the command `cuvee`."""

from cuvee.cli import main

if __name__ == "__main__":
    main()
