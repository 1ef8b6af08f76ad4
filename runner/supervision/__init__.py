"""The worker process from outside: started, watched, limited, killed, and tried again."""
