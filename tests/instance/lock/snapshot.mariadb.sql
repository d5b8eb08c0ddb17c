DELETE FROM machine_readings_labelled WHERE machine_readings_labelled.taken_on <= %(last_expired_day)s OR machine_readings_labelled.taken_on = %(snapshot_day)s;

INSERT INTO machine_readings_labelled (taken_on, reading, machine, hours, maker, power, output, num_parts, parts, vibration, stops, wear, humidity, grade, shift, `condition`, day) SELECT %(snapshot_day)s AS taken_on, ranked_rows.reading, ranked_rows.machine, ranked_rows.hours, ranked_rows.maker, ranked_rows.power, ranked_rows.output, ranked_rows.num_parts, ranked_rows.parts, ranked_rows.vibration, ranked_rows.stops, ranked_rows.wear, ranked_rows.humidity, ranked_rows.grade, ranked_rows.shift, ranked_rows.`condition`, ranked_rows._label_day AS day
FROM (SELECT machine_readings.reading AS reading, machine_readings.machine AS machine, machine_readings.hours AS hours, machine_readings.maker AS maker, machine_readings.power AS power, machine_readings.output AS output, machine_readings.num_parts AS num_parts, machine_readings.parts AS parts, machine_readings.vibration AS vibration, machine_readings.stops AS stops, machine_readings.wear AS wear, machine_readings.humidity AS humidity, machine_readings.grade AS grade, machine_readings.shift AS shift, newest_labels.`condition` AS `condition`, newest_labels._label_day AS _label_day, row_number() OVER (PARTITION BY machine_readings.reading, machine_readings.machine ORDER BY machine_readings.day DESC) AS _newness
FROM (SELECT ranked_labels.reading AS reading, ranked_labels.machine AS machine, ranked_labels._label_day AS _label_day, ranked_labels.`condition` AS `condition`, ranked_labels._newness AS _newness
FROM (SELECT machine_conditions.reading AS reading, machine_conditions.machine AS machine, machine_conditions.day AS _label_day, machine_conditions.`condition` AS `condition`, row_number() OVER (PARTITION BY machine_conditions.reading, machine_conditions.machine ORDER BY machine_conditions.day DESC) AS _newness
FROM machine_conditions
WHERE machine_conditions.day BETWEEN %(first_label_day)s AND %(snapshot_day)s) AS ranked_labels
WHERE ranked_labels._newness = 1) AS newest_labels INNER JOIN machine_readings ON machine_readings.reading = newest_labels.reading AND machine_readings.machine = newest_labels.machine AND machine_readings.day <= newest_labels._label_day) AS ranked_rows
WHERE ranked_rows._newness = 1;

SELECT count(*) AS count_1
FROM machine_readings_labelled
WHERE machine_readings_labelled.taken_on = %(snapshot_day)s;
