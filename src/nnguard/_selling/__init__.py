"""What a vendor does with licenses: issue them, write them down, revoke them."""
