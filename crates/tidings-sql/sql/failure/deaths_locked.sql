SELECT deaths FROM tidings_dead_letter WHERE consumer = :consumer AND event_key = :event_key
{for_update}
