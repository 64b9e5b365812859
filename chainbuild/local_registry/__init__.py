"""The managed chain registry on localhost: its service, leases, login and data."""
