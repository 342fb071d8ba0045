SELECT event_key, history FROM tidings_dead_letter WHERE consumer = :consumer AND event_key IN ([:event_key])
