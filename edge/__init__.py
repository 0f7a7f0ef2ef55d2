"""The till: sells with and without the network, prints, and keeps one link to the cloud."""
