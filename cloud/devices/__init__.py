"""What the merchant sees and does about its tills: the public service over tills and sync."""
