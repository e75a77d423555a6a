"""The way out of this machine: proxies, certificates, addresses. Knows no hub, no files, no tokens."""
