"""Pages for people: an order's page for the customer, a desk for the seller.

Made on the server, of templates; forms and links are all that moves. Nothing on them is JavaScript.
"""

from nnguard._server.pages.problems import respond
from nnguard._server.pages.routes import pages_routes

__all__ = ["pages_routes", "respond"]
