"""The service: jobs over HTTP, kept on disk, computed one after another; `realsrt serve` runs it. Extra: serve.

Requests (app) put jobs into a store (store); one thread (worker) takes them out, computes them (maker) and tells
whoever listens (live). `client` needs nothing but the standard library.
"""
