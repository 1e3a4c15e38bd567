"""The clinic: doctors, patients and visits."""

from __future__ import annotations

from demo_domains.grammar import (
    Combo,
    Dice,
    Domain,
    Entity,
    Family,
    Pools,
    months,
    noun,
    np,
    phrase,
    sort_keys,
    spans,
    values,
)
from demo_domains.people import full_names, iso_date

SCHEMA = (
    "CREATE TABLE doctor (id INTEGER PRIMARY KEY, name TEXT, field TEXT, city TEXT, "
    "salary INTEGER);",
    "CREATE TABLE patient (id INTEGER PRIMARY KEY, name TEXT, city TEXT, born TEXT, phone TEXT);",
    "CREATE TABLE visit (id INTEGER PRIMARY KEY, patient_id INTEGER REFERENCES patient (id), "
    "doctor_id INTEGER REFERENCES doctor (id), day TEXT, fee INTEGER, diagnosis TEXT);",
)

FIELDS = {"pediatrics": 6, "surgery": 5, "cardiology": 4, "dermatology": 3, "neurology": 2}
FEES = {
    "pediatrics": (35, 110),
    "surgery": (140, 420),
    "cardiology": (80, 260),
    "dermatology": (45, 150),
    "neurology": (90, 300),
}
DIAGNOSES = {
    "pediatrics": ("flu", "cough", "ear infection", "fever", "fever"),
    "surgery": ("fracture", "hernia", "fracture", "appendicitis"),
    "cardiology": ("hypertension", "arrhythmia", "hypertension"),
    "dermatology": ("eczema", "acne", "rash", "eczema"),
    "neurology": ("migraine", "epilepsy", "migraine"),
}
CITIES = ("Hamburg", "Bremen", "Kiel", "Rostock", "Hanover", "Flensburg")
DOCTOR_CITIES = ("Hamburg", "Bremen", "Kiel", "Lubeck")
AREAS = ("040", "0421", "0431", "0381", "0511", "0461")
PATIENTS = 60
VISITS = 180


def _doctors(dice: Dice, names: list[str]) -> list[tuple[object, ...]]:
    """Return the doctors; no two have the same salary."""
    fields = dice.shuffled(field for field, count in FIELDS.items() for _ in range(count))
    salaries: list[int] = []
    for field in fields:
        salary = dice.between(39, 72) * 100 + (900 if field == "surgery" else 0)
        while salary in salaries:
            salary += 50
        salaries.append(salary)
    return [
        (number, name, fields[number - 1], dice.pick(DOCTOR_CITIES), salaries[number - 1])
        for number, name in enumerate(names, 1)
    ]


def _patients(dice: Dice, names: list[str]) -> list[tuple[object, ...]]:
    """Return the patients; some gave no phone number."""
    places = [place for place in range(len(CITIES)) for _ in range(8 - place)]
    born: list[str] = []
    while len(born) < len(names):
        day = iso_date(dice, "1938-03-01", "2017-10-31")
        if day not in born:
            born.append(day)
    patients: list[tuple[object, ...]] = []
    for number, name in enumerate(names, 1):
        place = dice.pick(places)
        phone = f"{AREAS[place]}-{dice.between(100000, 999999)}"
        known = phone if dice.below(6) else None
        patients.append((number, name, CITIES[place], born[number - 1], known))
    return patients


def _visits(
    dice: Dice, doctors: list[tuple[object, ...]], patients: list[tuple[object, ...]]
) -> list[tuple[object, ...]]:
    """Return the visits in order of their day; some have no diagnosis."""
    busy = [doctor for doctor in doctors if doctor[0] not in (4, 15)]
    busy += busy[::3] + busy[::5] + busy[::5]
    ill = [patient for patient in patients if int(str(patient[0])) % 11 != 6]
    ill += ill[::4] + ill[::7] + ill[::7]
    visits = []
    for _ in range(VISITS):
        doctor, patient = dice.pick(busy), dice.pick(ill)
        field = str(doctor[2])
        if field == "pediatrics" and str(patient[3]) < "2003-01-01":
            doctor = dice.pick([other for other in busy if other[2] != "pediatrics"])
            field = str(doctor[2])
        diagnosis = dice.pick(DIAGNOSES[field]) if dice.below(7) else None
        fee = dice.between(*FEES[field])
        visits.append(
            (iso_date(dice, "2021-01-05", "2023-12-21"), patient[0], doctor[0], fee, diagnosis)
        )
    visits.sort(key=lambda visit: (visit[0], str(visit[1]), str(visit[2])))
    return [
        (number, patient_id, doctor_id, day, fee, diagnosis)
        for number, (day, patient_id, doctor_id, fee, diagnosis) in enumerate(visits, 1)
    ]


def _rows() -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of all tables."""
    dice = Dice("clinic rows")
    staff = sum(FIELDS.values())
    names = full_names(dice, staff + PATIENTS)
    doctors = _doctors(dice, names[:staff])
    patients = _patients(dice, names[staff:])
    return {
        "doctor": doctors,
        "patient": patients,
        "visit": _visits(dice, doctors, patients),
    }


VISIT_PATIENT = "JOIN patient ON visit.patient_id = patient.id"
VISIT_DOCTOR = "JOIN doctor ON visit.doctor_id = doctor.id"


def _pools(rows: dict[str, list[tuple[object, ...]]]) -> Pools:
    """Return the values that questions may name."""
    dice = Dice("clinic values")
    return {
        "field": values(*FIELDS),
        "city": values(*CITIES),
        "dcity": values(*DOCTOR_CITIES),
        "doctor": values(*dice.shuffled(str(row[1]) for row in rows["doctor"])),
        "patient": values(*dice.shuffled(str(row[1]) for row in rows["patient"])),
        "visitid": values(*dice.shuffled(str(row[0]) for row in rows["visit"])),
        "diag": values(
            *("flu", "fever", "fracture", "hernia", "hypertension", "arrhythmia", "eczema"),
            *("acne", "migraine", "epilepsy", "cough", "rash"),
        ),
        "sal": values(4500, 4800, 5000, 5200, 5500, 5800, 6000, 6300, 6500),
        "fee": values(50, 60, 75, 90, 100, 120, 150, 180, 200, 250, 300),
        "sspan": spans((4000, 5000), (4500, 5500), (5000, 6000), (5500, 7000)),
        "fspan": spans((40, 60), (50, 100), (80, 120), (100, 150), (150, 250), (200, 400)),
        "vspan": spans(("2021-03-01", "2021-05-31"), ("2022-07-01", "2022-12-31")),
        "letter": values("A", "B", "C", "D", "E", "F", "H", "J", "K", "L", "M", "N", "O", "T"),
        "last": values("Khan", "Turner", "Lewis", "Clark", "Shah", "Morris", "Jones", "Hart"),
        "area": values(*AREAS),
        "byear": values(*sorted({str(row[3])[:4] for row in rows["patient"]})),
        "bdate": values(
            *("1945-01-01", "1950-01-01", "1955-06-30", "1960-01-01", "1970-01-01"),
            *("1975-06-30", "1980-01-01", "1990-01-01", "2000-01-01", "2010-01-01"),
        ),
        "vyear": values(2021, 2022, 2023),
        "vmonth": months(
            "2021-03", "2021-08", "2021-12", "2022-01", "2022-05", "2022-09", "2023-02", "2023-07"
        ),
        "vdate": values("2021-09-01", "2022-02-15", "2022-07-01", "2023-01-01", "2023-08-01"),
        "ayear": values(2020, 2021, 2022, 2023),
        "times": (phrase("12", "one year (12 months)"), phrase("6", "half a year (6 months)")),
    }


DOCTOR = Entity(
    noun("doctor", "doctor", "doctors"),
    cols=(
        noun("doctor.name", "name", "names"),
        noun("doctor.name, doctor.salary", "name and salary", "names and salaries"),
        noun("doctor.name, doctor.field", "name and field", "names and fields"),
        noun("doctor.name, doctor.city", "name and city", "names and cities"),
    ),
    nps=(
        np("eq", "doctor.field = '{field}'", "~ in {field}", "~ working in {field}"),
        np("eq", "doctor.city = '{dcity}'", "~ from {dcity}", "~ living in {dcity}"),
        np(
            "cmp",
            "doctor.salary > {sal}",
            "~ with a salary above {sal}|~ with salaries above {sal}",
            "~ earning more than {sal}",
        ),
        np(
            "cmp",
            "doctor.salary < {sal}",
            "~ with a salary below {sal}|~ with salaries below {sal}",
            "~ earning less than {sal}",
        ),
        np("cmp", "doctor.salary >= {sal}", "~ earning at least {sal}"),
        np("cmp", "doctor.field != '{field}'", "~ not working in {field}"),
        np("between", "doctor.salary BETWEEN {sspan}", "~ earning {sspan}"),
        np(
            "like",
            "doctor.name LIKE '{letter}%'",
            "~ whose name starts with the letter {letter}|"
            "~ whose names start with the letter {letter}",
        ),
        np("in", "doctor.field IN ('{field}', '{field2}')", "~ in {field} or {field2}"),
        np(
            "and",
            "doctor.field = '{field}' AND doctor.salary > {sal}",
            "~ in {field} earning more than {sal}",
        ),
        np(
            "and",
            "doctor.city = '{dcity}' AND doctor.salary < {sal}",
            "~ from {dcity} earning less than {sal}",
        ),
        np(
            "or",
            "doctor.city = '{dcity}' OR doctor.salary > {sal}",
            "~ living in {dcity} or earning more than {sal}",
        ),
        np(
            "scalar",
            "doctor.salary > (SELECT AVG(doctor.salary) FROM doctor)",
            "~ earning more than the average doctor",
            "~ with a salary above the average|~ with salaries above the average",
        ),
        np(
            "scalar",
            "doctor.salary < (SELECT doctor.salary FROM doctor WHERE doctor.name = '{doctor}')",
            "~ earning less than {doctor}",
        ),
        np(
            "scalar",
            "doctor.salary > (SELECT MAX(doctor.salary) FROM doctor "
            "WHERE doctor.field = '{field}')",
            "~ earning more than every doctor in {field}",
        ),
        np(
            "sub",
            "doctor.id IN (SELECT visit.doctor_id FROM visit WHERE visit.fee > {fee})",
            "~ with a visit costing more than {fee}",
        ),
        np(
            "sub",
            "doctor.id IN (SELECT visit.doctor_id FROM visit WHERE visit.diagnosis = '{diag}')",
            "~ with at least one {diag} diagnosis",
        ),
        np(
            "not_in",
            "doctor.id NOT IN (SELECT visit.doctor_id FROM visit)",
            "~ without any visit",
        ),
        np(
            "exists",
            "NOT EXISTS (SELECT 1 FROM visit WHERE visit.doctor_id = doctor.id "
            "AND visit.day > '{vdate}')",
            "~ without a visit after {vdate}",
        ),
    ),
    pools={
        "attr": (
            phrase("doctor.salary", "salary"),
            phrase("doctor.field", "field"),
            phrase("doctor.city", "city"),
        ),
        "who": (phrase("doctor WHERE doctor.name = '{doctor}'", "doctor {doctor}"),),
        "agg": (
            phrase("AVG(doctor.salary)", "average salary", "mean salary"),
            phrase("MAX(doctor.salary)", "highest salary", "maximum salary"),
            phrase("MIN(doctor.salary)", "lowest salary", "minimum salary"),
            phrase("SUM(doctor.salary)", "total salary"),
        ),
        "dcol": (noun("doctor.field", "field", "fields"), noun("doctor.city", "city", "cities")),
        "order": (
            phrase("doctor.name", "in alphabetical order of name", "sorted by name from A to Z"),
            *sort_keys("doctor.salary", "salary", "lowest paid first", "best paid first"),
        ),
        "sup": (
            phrase("doctor.salary DESC", "# best paid ~", "# ~ earning the most"),
            phrase("doctor.salary", "# lowest paid ~", "# ~ earning the least"),
        ),
        "grp": (noun("doctor.field", "field", "fields"), noun("doctor.city", "city", "cities")),
        "hagg": (phrase("AVG(doctor.salary)", "average salary"),),
        "level": values(5000, 5200, 5500, 5800, 6000),
        "k": values(2, 3, 4, 5),
    },
)

PATIENT = Entity(
    noun("patient", "patient", "patients"),
    cols=(
        noun("patient.name", "name", "names"),
        noun("patient.name, patient.born", "name and birth date", "names and birth dates"),
        noun("patient.name, patient.city", "name and city", "names and cities"),
    ),
    nps=(
        np("eq", "patient.city = '{city}'", "~ from {city}", "~ living in {city}"),
        np("cmp", "patient.city != '{city}'", "~ not from {city}", "~ living outside {city}"),
        np("like", "patient.name LIKE '% {last}'", "~ with the last name {last}"),
        np(
            "like",
            "patient.phone LIKE '{area}%'",
            "~ whose phone number starts with {area}|~ whose phone numbers start with {area}",
        ),
        np(
            "in",
            "patient.city IN ('{city}', '{city2}', '{city3}')",
            "~ from {city}, {city2} or {city3}",
        ),
        np("null", "patient.phone IS NULL", "~ without a phone number"),
        np("null", "patient.phone IS NOT NULL", "~ with a phone number"),
        np("year", "strftime('%Y', patient.born) = '{byear}'", "~ born in {byear}"),
        np("date", "patient.born < '{bdate}'", "~ born before {bdate}"),
        np("date", "patient.born > '{bdate}'", "~ born after {bdate}"),
        np(
            "and",
            "patient.city = '{city}' AND patient.born > '{bdate}'",
            "~ from {city} born after {bdate}",
        ),
        np(
            "and",
            "patient.city = '{city}' AND patient.phone IS NULL",
            "~ from {city} without a phone number",
        ),
        np(
            "or",
            "patient.city = '{city}' OR patient.born < '{bdate}'",
            "~ from {city} or born before {bdate}",
        ),
        np(
            "scalar",
            "patient.born > (SELECT patient.born FROM patient WHERE patient.name = '{patient}')",
            "~ younger than {patient}",
            "~ born after {patient}",
        ),
        np(
            "sub",
            "patient.id IN (SELECT visit.patient_id FROM visit WHERE visit.diagnosis = '{diag}')",
            "~ diagnosed with {diag}",
        ),
        np(
            "sub",
            "patient.id IN (SELECT visit.patient_id FROM visit "
            "WHERE strftime('%Y-%m', visit.day) = '{vmonth}')",
            "~ with a visit in {vmonth}",
        ),
        np(
            "not_in",
            "patient.id NOT IN (SELECT visit.patient_id FROM visit)",
            "~ without any visit",
            "~ who never had a visit",
        ),
        np(
            "not_in",
            "patient.id NOT IN (SELECT visit.patient_id FROM visit "
            "WHERE strftime('%Y', visit.day) = '{vyear}')",
            "~ without a visit in {vyear}",
        ),
        np(
            "exists",
            "EXISTS (SELECT 1 FROM visit WHERE visit.patient_id = patient.id "
            "AND visit.fee > {fee})",
            "~ with a visit costing more than {fee}",
        ),
        np(
            "exists",
            "EXISTS (SELECT 1 FROM visit WHERE visit.patient_id = patient.id "
            "AND visit.day > '{vdate}')",
            "~ with a visit after {vdate}",
        ),
    ),
    pools={
        "attr": (
            phrase("patient.born", "birth date", "date of birth"),
            phrase("patient.phone", "phone number"),
            phrase("patient.city", "city"),
        ),
        "who": (phrase("patient WHERE patient.name = '{patient}'", "the patient {patient}"),),
        "agg": (
            phrase("MIN(patient.born)", "earliest birth date"),
            phrase("MAX(patient.born)", "latest birth date"),
        ),
        "dcol": (noun("patient.city", "home city", "home cities"),),
        "order": (
            phrase("patient.name", "in alphabetical order of name", "sorted by name from A to Z"),
            *sort_keys("patient.born", "birth date", "oldest first", "youngest first"),
        ),
        "sup": (
            phrase("patient.born", "# oldest ~", "# ~ born first"),
            phrase("patient.born DESC", "# youngest ~", "# ~ born last"),
        ),
        "grp": (noun("patient.city", "city", "cities"),),
    },
)

VISIT = Entity(
    noun("visit", "visit", "visits"),
    cols=(
        noun("visit.id, visit.day", "id and date", "ids and dates"),
        noun("visit.id, visit.fee", "id and fee", "ids and fees"),
        noun("visit.id, visit.day, visit.fee", "id, date and fee", "ids, dates and fees"),
    ),
    nps=(
        np("eq", "visit.diagnosis = '{diag}'", "~ with the diagnosis {diag}"),
        np(
            "cmp",
            "visit.fee > {fee}",
            "~ with a fee above {fee}|~ with fees above {fee}",
            "~ costing more than {fee}",
        ),
        np(
            "cmp",
            "visit.fee < {fee}",
            "~ with a fee below {fee}|~ with fees below {fee}",
            "~ costing less than {fee}",
        ),
        np("cmp", "visit.fee <= {fee}", "~ costing at most {fee}"),
        np("between", "visit.fee BETWEEN {fspan}", "~ with a fee {fspan}"),
        np("between", "visit.day BETWEEN {vspan}", "~ that took place {vspan}"),
        np(
            "in",
            "visit.diagnosis IN ('{diag}', '{diag2}')",
            "~ with the diagnosis {diag} or {diag2}",
        ),
        np("null", "visit.diagnosis IS NULL", "~ without a diagnosis"),
        np("null", "visit.diagnosis IS NOT NULL", "~ with a diagnosis"),
        np("year", "strftime('%Y-%m', visit.day) = '{vmonth}'", "~ in {vmonth}"),
        np("year", "strftime('%Y', visit.day) = '{vyear}'", "~ in {vyear}"),
        np("date", "visit.day > '{vdate}'", "~ after {vdate}"),
        np("date", "visit.day < '{vdate}'", "~ before {vdate}"),
        np(
            "and",
            "visit.diagnosis = '{diag}' AND visit.fee > {fee}",
            "~ with the diagnosis {diag} costing more than {fee}",
        ),
        np(
            "or",
            "visit.diagnosis = '{diag}' OR visit.fee > {fee}",
            "~ with the diagnosis {diag} or a fee above {fee}",
        ),
        np(
            "scalar",
            "visit.fee > (SELECT AVG(visit.fee) FROM visit)",
            "~ costing more than the average visit",
            "~ with a fee above the average|~ with fees above the average",
        ),
        np(
            "scalar",
            "visit.fee > (SELECT MAX(visit.fee) FROM visit WHERE visit.diagnosis = '{diag}')",
            "~ costing more than every visit with the diagnosis {diag}",
        ),
        np(
            "join",
            "patient.city = '{city}'",
            "~ by a patient from {city}|~ by patients from {city}",
            join=VISIT_PATIENT,
        ),
        np("join", "patient.name = '{patient}'", "~ by the patient {patient}", join=VISIT_PATIENT),
        np("join", "doctor.name = '{doctor}'", "~ to doctor {doctor}", join=VISIT_DOCTOR),
        np(
            "join",
            "doctor.field = '{field}'",
            "~ to a doctor in {field}|~ to doctors in {field}",
            join=VISIT_DOCTOR,
        ),
        np(
            "join3",
            "patient.city = '{city}' AND doctor.field = '{field}'",
            "~ by a patient from {city} to a doctor in {field}|"
            "~ by patients from {city} to doctors in {field}",
            join=f"{VISIT_PATIENT} {VISIT_DOCTOR}",
        ),
        np(
            "join3",
            "patient.born < '{bdate}' AND doctor.field = '{field}'",
            "~ by a patient born before {bdate} to a doctor in {field}|"
            "~ by patients born before {bdate} to doctors in {field}",
            join=f"{VISIT_PATIENT} {VISIT_DOCTOR}",
        ),
    ),
    pools={
        "attr": (
            phrase("visit.day", "date"),
            phrase("visit.fee", "fee"),
            phrase("visit.diagnosis", "diagnosis"),
        ),
        "who": (phrase("visit WHERE visit.id = {visitid}", "the visit with id {visitid}"),),
        "agg": (
            phrase("AVG(visit.fee)", "average fee", "mean fee"),
            phrase("MAX(visit.fee)", "highest fee", "maximum fee"),
            phrase("MIN(visit.fee)", "lowest fee", "minimum fee"),
            phrase("SUM(visit.fee)", "total fee", "sum of the fees"),
            phrase("MIN(visit.fee), MAX(visit.fee)", "lowest and highest fee"),
            phrase("MAX(visit.day)", "latest date"),
        ),
        "order": sort_keys("visit.day", "date", "earliest first", "latest first")
        + sort_keys("visit.fee", "fee", "cheapest first", "most expensive first"),
        "sup": (
            phrase(
                "visit.fee DESC",
                "# most expensive ~",
                "# ~ with the highest fee|# ~ with the highest fees",
            ),
            phrase("visit.fee", "# cheapest ~", "# ~ with the lowest fee|# ~ with the lowest fees"),
        ),
        "grp": (noun("strftime('%Y', visit.day)", "year", "years"),),
        "dcol": (noun("visit.diagnosis", "diagnosis", "diagnoses"),),
        "k": values(10, 20, 30, 40, 50, 55, 60),
    },
)

VISIT_WITH_PATIENT = Entity(
    noun(f"visit {VISIT_PATIENT}", "visit", "visits"),
    cols=(
        noun("patient.name, visit.day", "patient name and date", "patient names and dates"),
        noun("patient.name, visit.fee", "patient name and fee", "patient names and fees"),
    ),
    nps=(
        np("jcols", "visit.diagnosis = '{diag}'", "~ with the diagnosis {diag}"),
        np("jcols", "visit.fee > {fee}", "~ costing more than {fee}"),
        np("jcols", "strftime('%Y-%m', visit.day) = '{vmonth}'", "~ in {vmonth}"),
    ),
    pools={
        "grp": (noun("patient.city", "patient city", "patient cities"),),
        "agg": (
            phrase("AVG(visit.fee)", "average fee"),
            phrase("SUM(visit.fee)", "total fee"),
        ),
        "attr": (phrase("patient.name", "patient name", "name of the patient"),),
        "who": (
            phrase(
                f"visit {VISIT_PATIENT} WHERE visit.id = {{visitid}}", "the visit with id {visitid}"
            ),
        ),
        "k": values(10, 15, 20, 25, 30),
    },
    heads=("list", "lookup", "group_count", "group_agg", "having_count", "group_most"),
)

VISIT_WITH_DOCTOR = Entity(
    noun(f"visit {VISIT_DOCTOR}", "visit", "visits"),
    cols=(
        noun("doctor.name, visit.day", "doctor name and date", "doctor names and dates"),
        noun("visit.day, doctor.field", "date and doctor field", "dates and doctor fields"),
    ),
    nps=(
        np("jcols", "visit.diagnosis IS NULL", "~ without a diagnosis"),
        np("jcols", "strftime('%Y-%m', visit.day) = '{vmonth}'", "~ in {vmonth}"),
    ),
    pools={
        "grp": (noun("doctor.field", "doctor field", "doctor fields"),),
        "agg": (
            phrase("AVG(visit.fee)", "average fee"),
            phrase("MAX(visit.fee)", "highest fee"),
        ),
        "hagg": (phrase("AVG(visit.fee)", "average fee"),),
        "level": values(90, 120, 150, 180),
        "k": values(15, 20, 25, 30, 40),
    },
    heads=("list", "group_count", "group_agg", "having_count", "having_agg", "group_most"),
)

VISIT_WITH_BOTH = Entity(
    noun(f"visit {VISIT_PATIENT} {VISIT_DOCTOR}", "visit", "visits"),
    cols=(
        noun(
            "patient.name, doctor.name",
            "patient name and doctor name",
            "patient names and doctor names",
        ),
        noun(
            "patient.name, doctor.name, visit.day",
            "patient name, doctor name and date",
            "patient names, doctor names and dates",
        ),
    ),
    nps=(
        np("jcols3", "visit.diagnosis = '{diag}'", "~ with the diagnosis {diag}"),
        np("jcols3", "strftime('%Y-%m', visit.day) = '{vmonth}'", "~ in {vmonth}"),
        np("jcols3", "visit.fee > {fee}", "~ costing more than {fee}"),
    ),
    heads=("list",),
)

PARENTS: tuple[Pools, ...] = (
    {
        "parent": (noun("doctor", "doctor", "doctors"),),
        "kid": (noun("visit.id", "visit", "visits"),),
        "par": (
            phrase("", "~"),
            phrase(" WHERE doctor.field = '{field}'", "~ in {field}"),
            phrase(" WHERE doctor.salary > {sal}", "~ earning more than {sal}"),
        ),
        "pname": (noun("doctor.name", "name", "names"),),
        "pkey": (phrase("doctor.id"),),
        "joined": (phrase(f"visit {VISIT_DOCTOR}"),),
        "left": (phrase("doctor LEFT JOIN visit ON visit.doctor_id = doctor.id"),),
        "kagg": (
            phrase("COUNT(*)", "number of visits", "visit count"),
            phrase("AVG(visit.fee)", "average fee of the visits"),
            phrase("MAX(visit.day)", "date of the latest visit"),
        ),
        "rank": (
            phrase("COUNT(*)", "the most visits", "the highest number of visits"),
            phrase("AVG(visit.fee)", "the highest average visit fee"),
        ),
        "k": values(6, 8, 10, 12, 15),
    },
    {
        "parent": (noun("patient", "patient", "patients"),),
        "kid": (noun("visit.id", "visit", "visits"),),
        "par": (
            phrase("", "~"),
            phrase(" WHERE patient.city = '{city}'", "~ from {city}"),
            phrase(" WHERE patient.born < '{bdate}'", "~ born before {bdate}"),
        ),
        "pname": (noun("patient.name", "name", "names"),),
        "pkey": (phrase("patient.id"),),
        "joined": (phrase(f"visit {VISIT_PATIENT}"),),
        "left": (phrase("patient LEFT JOIN visit ON visit.patient_id = patient.id"),),
        "kagg": (
            phrase("COUNT(*)", "number of visits", "visit count"),
            phrase("SUM(visit.fee)", "total fee of the visits"),
            phrase("MIN(visit.day)", "date of the first visit"),
        ),
        "rank": (
            phrase("COUNT(*)", "the most visits", "the highest number of visits"),
            phrase("SUM(visit.fee)", "the highest total visit fee"),
        ),
        "k": values(3, 4, 5, 6),
    },
)

FAMILIES = (
    Family(
        "patients_of_doctor",
        "join_distinct",
        f"SELECT DISTINCT patient.name FROM visit {VISIT_PATIENT} {VISIT_DOCTOR} "
        "WHERE doctor.name = '{doctor}'",
        (
            "Which different patients have seen doctor {doctor}? Give their names.",
            "List the distinct names of the patients who visited doctor {doctor}.",
            "Show the name of every patient of doctor {doctor}, each name once.",
            "Who has been to doctor {doctor}? List every patient name only once.",
        ),
        (
            "Give the names, without duplicates, of the patients with a visit to doctor {doctor}.",
            "Return each patient name once if the patient went to doctor {doctor}.",
        ),
        (3, 1),
    ),
    Family(
        "doctors_with_diagnosis",
        "join_distinct",
        f"SELECT DISTINCT doctor.name FROM visit {VISIT_DOCTOR} WHERE visit.diagnosis = '{{diag}}'",
        (
            "Which different doctors have diagnosed {diag}? Give their names.",
            "List the distinct names of the doctors who made the diagnosis {diag}.",
            "Show the name of every doctor who diagnosed {diag}, each name once.",
        ),
        ("Return, without duplicates, the names of the doctors behind the {diag} diagnoses.",),
        (2, 0),
    ),
    Family(
        "shared_cities",
        "set_operation",
        "SELECT doctor.city FROM doctor WHERE doctor.field = '{field}' "
        "INTERSECT SELECT patient.city FROM patient WHERE patient.born > '{bdate}'",
        (
            "In which cities do both doctors in {field} and patients born after {bdate} live?",
            "List the cities that are home to doctors in {field} and also to patients born after "
            "{bdate}.",
            "Show every city that has doctors in {field} as well as patients born after {bdate}.",
        ),
        ("Name the cities where doctors in {field} live and patients born after {bdate}, too.",),
        (1, 0),
    ),
    Family(
        "age_in_year",
        "arithmetic",
        "SELECT patient.name, {ayear} - strftime('%Y', patient.born) FROM patient "
        "WHERE patient.city = '{city}'",
        (
            "How old did the patients from {city} turn in {ayear}? Show the name and the age.",
            "Show the name and the age reached in {ayear} of every patient from {city}.",
            "Give the name of each patient from {city} and the age each one reached in {ayear}.",
            "List the names of the patients from {city} with the age each of them reached in "
            "{ayear}.",
        ),
        ("For the patients from {city}, return the name and how old each one became in {ayear}.",),
        (3, 1),
    ),
    Family(
        "pay_over_months",
        "arithmetic",
        "SELECT doctor.name, doctor.salary * {times} FROM doctor WHERE doctor.field = '{field}'",
        (
            "The salaries are monthly. Show the name and the pay for {times} of every doctor in "
            "{field}.",
            "Given that salaries are monthly, list the names of the doctors in {field} with what "
            "each earns in {times}.",
            "Salaries are per month. What does each doctor in {field} earn in {times}? Give the "
            "name and the sum.",
        ),
        (
            "With monthly salaries, return the name of every doctor in {field} and the pay over "
            "{times}.",
        ),
        (2, 0),
    ),
)

COMBOS = (
    Combo(
        "What do visits to doctors in surgery cost on average if they have a diagnosis? "
        "Give the average fee.",
        f"SELECT AVG(visit.fee) FROM visit {VISIT_DOCTOR} "
        "WHERE doctor.field = 'surgery' AND visit.diagnosis IS NOT NULL",
    ),
    Combo(
        "How many patients from Kiel or Bremen were born after 1990-01-01?",
        "SELECT COUNT(*) FROM patient WHERE city IN ('Kiel', 'Bremen') AND born > '1990-01-01'",
    ),
    Combo(
        "Of the patients who never had a visit, which two are the oldest? "
        "Give name and birth date.",
        "SELECT name, born FROM patient WHERE id NOT IN (SELECT patient_id FROM visit) "
        "ORDER BY born LIMIT 2",
    ),
    Combo(
        "Which doctor field has the most visits costing more than 100?",
        f"SELECT doctor.field FROM visit {VISIT_DOCTOR} WHERE visit.fee > 100 "
        "GROUP BY doctor.field ORDER BY COUNT(*) DESC LIMIT 1",
    ),
    Combo(
        "How many different patients went to a doctor in dermatology in 2023?",
        f"SELECT COUNT(DISTINCT visit.patient_id) FROM visit {VISIT_DOCTOR} "
        "WHERE doctor.field = 'dermatology' AND strftime('%Y', visit.day) = '2023'",
    ),
    Combo(
        "List the patient name and the fee of all visits to doctors in neurology in 2022, "
        "cheapest first.",
        f"SELECT patient.name, visit.fee FROM visit {VISIT_PATIENT} {VISIT_DOCTOR} "
        "WHERE doctor.field = 'neurology' AND strftime('%Y', visit.day) = '2022' "
        "ORDER BY visit.fee",
    ),
    Combo(
        "Which doctors from Hamburg earn more than the average doctor? Give their names.",
        "SELECT name FROM doctor WHERE city = 'Hamburg' "
        "AND salary > (SELECT AVG(salary) FROM doctor)",
    ),
)


def domain() -> Domain:
    """Return the clinic with its rows and its vocabulary."""
    rows = _rows()
    return Domain(
        "clinic",
        SCHEMA,
        rows,
        _pools(rows),
        (
            DOCTOR,
            PATIENT,
            VISIT,
            VISIT_WITH_PATIENT,
            VISIT_WITH_DOCTOR,
            VISIT_WITH_BOTH,
        ),
        PARENTS,
        FAMILIES,
        COMBOS,
    )
