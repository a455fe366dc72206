"""The passes that proxies share, and the scoring of one network by many proxies."""
