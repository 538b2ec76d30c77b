"""When stages run, how often to try, where, and whom to tell; never how anything is computed."""
