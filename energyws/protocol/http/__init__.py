"""HTTP as clients and proxies speak it: requests, responses, queries, and who the client is."""
