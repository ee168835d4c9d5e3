"""BGP as a matter of configuration: which node speaks how, and with whom. Pure."""
