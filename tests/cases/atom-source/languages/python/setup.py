"""As upstream's for PyPI: it asks for versions that the stock option does not have, so images do not install by it."""

import setuptools

setuptools.setup(name="elementary-atom", packages=["atom"], version="0.1", install_requires=["numpy==1.18.3"])
