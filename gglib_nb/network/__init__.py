"""Connections to other machines: proxies, certificates, addresses. Knows no hub, no files, no tokens."""
