SELECT consumer FROM {table} WHERE consumer = :consumer LIMIT 1
