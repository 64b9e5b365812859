"""Requests and answers of the distribution protocol: transports, limits of time and size, authorization, redirects, retries."""
