"""Programs for working on kvmprobe, and for putting it on hosts. setuptools installs none of them."""
