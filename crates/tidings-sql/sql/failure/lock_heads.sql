SELECT id FROM tidings_parked WHERE consumer = :consumer AND id IN ([:id]) ORDER BY id
{for_update}
