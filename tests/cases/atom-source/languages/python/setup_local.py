"""What images install by."""

import setuptools

setuptools.setup(name="atom", packages=["atom"], version="0.1", include_package_data=True)
