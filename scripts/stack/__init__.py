"""The whole platform on one machine: starts the programs, watches over them, shows what happens, stops them."""
