"""What the docs generate from the code when the site is built: the reference, the notebooks' pages, the figures."""
