"""Reading what users have: folders, archives, pickles; nothing is unpacked."""
