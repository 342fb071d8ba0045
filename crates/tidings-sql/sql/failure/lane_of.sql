SELECT id, lane, event_key, letter FROM tidings_parked WHERE consumer = :consumer AND id IN ([:id])
