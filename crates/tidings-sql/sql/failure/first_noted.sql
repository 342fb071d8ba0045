SELECT event_key, noted_us FROM tidings_attempt WHERE consumer = :consumer AND event_key IN ([:event_key])
