"""What people say of the photographs and where things are in them, through the crops."""
