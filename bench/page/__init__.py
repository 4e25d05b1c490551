"""Pictures of the page: `python -m bench.page`."""
