"""The relay: it holds a license in the customer's network and leases it to machines in turn.

Law: whatever crashes, and whatever clocks do, never more leases are held than the license says.
"""
