-- By the event, which has one row in a group at most: a person may have put a copy in its row meanwhile.
DELETE FROM tidings_parked WHERE consumer = :consumer AND event_key IN ([:event_key])
