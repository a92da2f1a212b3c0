"""`python -m outflow`."""

from outflow import main

if __name__ == "__main__":
    main()
