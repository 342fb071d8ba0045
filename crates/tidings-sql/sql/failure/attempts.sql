SELECT event_key, attempts FROM tidings_attempt WHERE consumer = :consumer
