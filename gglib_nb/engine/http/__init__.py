"""One exchange with the hub or its CDN: where a file is, a connection, what an answer means. Knows no files."""
