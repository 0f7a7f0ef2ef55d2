"""The story of one sale through a running platform, told in five chapters: for people to watch and for the flow test to check."""
