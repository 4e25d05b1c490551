"""The page that a worker serves at `/`: its files, and the responses that carry them."""
