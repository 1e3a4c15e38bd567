"""The shop: customers, products, orders and the items of the orders."""

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
from demo_domains.people import days_later, full_names, iso_date

SCHEMA = (
    "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT, email TEXT);",
    "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, category TEXT, price REAL, "
    "stock INTEGER);",
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer (id), "
    "day TEXT, shipped TEXT);",
    "CREATE TABLE item (order_id INTEGER REFERENCES orders (id), "
    "product_id INTEGER REFERENCES product (id), quantity INTEGER);",
)

# Prices are multiples of a quarter: sums and products of them are exact in binary, too.
PRODUCTS = {
    "kitchen": (
        "Bread Knife 14.5|Copper Pan 62.75|Espresso Cup 6.25|Mixing Bowl 11.75|Pepper Mill 19.25|"
        "Pasta Pot 34.5|Cutting Board 16.75|Tea Kettle 28.25|Wine Opener 9.5|Salad Spinner 21.5|"
        "Cake Tin 12.25"
    ),
    "garden": (
        "Garden Hose 24.75|Rose Shears 17.5|Plant Pot 5.5|Lawn Rake 18.25|Bird Feeder 13.75|"
        "Watering Can 15.25|Hedge Trimmer 89.5|Garden Bench 129.75|Seed Tray 4.75"
    ),
    "office": (
        "Desk Lamp 32.25|Paper Tray 7.75|Office Chair 149.5|Stapler 8.25|Notebook Set 10.5|"
        "Wall Calendar 9.25|Pen Holder 6.75|Monitor Stand 44.5"
    ),
    "sports": (
        "Yoga Mat 22.75|Tennis Racket 74.25|Jump Rope 8.75|Water Bottle 12.75|Bike Helmet 49.25|"
        "Running Belt 18.75|Dumbbell Set 56.5"
    ),
    "toy": (
        "Wooden Train 27.5|Puzzle Box 13.25|Paper Kite 11.25|Teddy Bear 23.5|Building Blocks 31.75|"
        "Toy Robot 39.5"
    ),
    "bathroom": "Bath Towel 14.25|Soap Dish 5.75|Shower Head 36.25|Laundry Basket 29.5",
}
CITIES = ("Denver", "Boston", "Austin", "Portland", "Chicago", "Atlanta")
MAILS = ("mail.example", "post.example", "inbox.example")
CUSTOMERS = 45
ORDERS = 110


def _customers(dice: Dice) -> list[tuple[object, ...]]:
    """Return the customers; some gave no email address."""
    weights = [city for place, city in enumerate(CITIES) for _ in range(8 - place)]
    customers: list[tuple[object, ...]] = []
    for number, name in enumerate(full_names(dice, CUSTOMERS), 1):
        mail = f"{name.lower().replace(' ', '.')}@{dice.pick(MAILS)}"
        customers.append((number, name, dice.pick(weights), mail if dice.below(5) else None))
    return customers


def _products(dice: Dice) -> list[tuple[object, ...]]:
    """Return the products; those in stock differ in the number of pieces."""
    lines = [(text, category) for category, texts in PRODUCTS.items() for text in texts.split("|")]
    stocks: list[int] = []
    products: list[tuple[object, ...]] = []
    for number, (text, category) in enumerate(dice.shuffled(lines), 1):
        name, _, price = text.rpartition(" ")
        stock = dice.between(3, 180)
        while stock in stocks:
            stock += 1
        stocks.append(stock)
        products.append((number, name, category, float(price), 0 if number % 13 == 4 else stock))
    return products


def _orders(dice: Dice) -> list[tuple[object, ...]]:
    """Return the orders in order of their day; the late ones are not yet shipped."""
    buyers = [number for number in range(1, CUSTOMERS + 1) if number % 10 != 7]
    buyers += buyers[::3] + buyers[::5] + buyers[::5]
    orders = []
    for _ in range(ORDERS):
        day = iso_date(dice, "2022-01-03", "2024-06-28")
        shipped = days_later(day, dice.between(1, 6))
        waiting = day > "2024-06-20" or dice.below(12) == 0
        orders.append((day, dice.pick(buyers), None if waiting else shipped))
    orders.sort(key=lambda order: (order[0], order[1]))
    return [(number, buyer, day, shipped) for number, (day, buyer, shipped) in enumerate(orders, 1)]


def _items(dice: Dice, products: int) -> list[tuple[object, ...]]:
    """Return one to four items an order, no product twice in the same order."""
    sold = [number for number in range(1, products + 1) if number % 14 != 3]
    sold += sold[::4] + sold[::6] + sold[::6]
    items: list[tuple[object, ...]] = []
    for order in range(1, ORDERS + 1):
        chosen: list[int] = []
        for _ in range(dice.pick((1, 1, 2, 2, 2, 3, 3, 4))):
            product = dice.pick(sold)
            if product not in chosen:
                chosen.append(product)
        items += [(order, product, dice.pick((1, 1, 1, 2, 2, 3, 4, 6))) for product in chosen]
    return items


def _rows() -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of all tables."""
    dice = Dice("shop rows")
    products = _products(dice)
    return {
        "customer": _customers(dice),
        "product": products,
        "orders": _orders(dice),
        "item": _items(dice, len(products)),
    }


ORDER_CUSTOMER = "JOIN customer ON orders.customer_id = customer.id"
ITEM_PRODUCT = "JOIN product ON item.product_id = product.id"
ITEM_ORDER = "JOIN orders ON item.order_id = orders.id"


def _pools(rows: dict[str, list[tuple[object, ...]]]) -> Pools:
    """Return the values that questions may name."""
    dice = Dice("shop values")
    return {
        "cat": values(*PRODUCTS),
        "city": values(*CITIES),
        "customer": values(*dice.shuffled(str(row[1]) for row in rows["customer"])),
        "product": values(*dice.shuffled(str(row[1]) for row in rows["product"])),
        "orderid": values(*dice.shuffled(str(row[0]) for row in rows["orders"])),
        "price": values(8, 10, 12, 15, 18, 20, 25, 30, 35, 40, 50, 60),
        "stock": values(10, 20, 30, 40, 50, 75, 100, 120),
        "pspan": spans((5, 10), (10, 20), (15, 25), (20, 40), (30, 60), (50, 100)),
        "qspan": spans((10, 50), (20, 60), (40, 80), (50, 100), (100, 150)),
        "ospan": spans(("2022-04-01", "2022-06-30"), ("2023-01-01", "2023-03-31")),
        "many": values(1, 2, 3, 4),
        "pword": values("Set", "Tray", "Garden", "Bo", "Paper", "Ba", "Pot"),
        "pstart": values("B", "C", "P", "S", "T", "W", "Pa"),
        "letter": values("A", "B", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O"),
        "last": values("Khan", "Turner", "Lewis", "Clark", "Shah", "Morris", "Jones", "Hart"),
        "oyear": values(2022, 2023, 2024),
        "omonth": months(
            "2022-02", "2022-07", "2022-11", "2023-01", "2023-05", "2023-09", "2024-03", "2024-06"
        ),
        "odate": values("2022-06-01", "2022-12-31", "2023-04-15", "2023-10-01", "2024-02-01"),
        "off": (
            phrase("0.5", "half the price"),
            phrase("0.75", "75 percent of the price"),
            phrase("2", "twice the price"),
        ),
    }


CUSTOMER = Entity(
    noun("customer", "customer", "customers"),
    cols=(
        noun("customer.name", "name", "names"),
        noun("customer.name, customer.city", "name and city", "names and cities"),
        noun(
            "customer.name, customer.email", "name and email address", "names and email addresses"
        ),
    ),
    nps=(
        np("eq", "customer.city = '{city}'", "~ from {city}", "~ living in {city}"),
        np("cmp", "customer.city != '{city}'", "~ not from {city}", "~ living outside {city}"),
        np(
            "like",
            "customer.name LIKE '{letter}%'",
            "~ whose name starts with the letter {letter}|"
            "~ whose names start with the letter {letter}",
        ),
        np("like", "customer.name LIKE '% {last}'", "~ with the last name {last}"),
        np("in", "customer.city IN ('{city}', '{city2}')", "~ from {city} or {city2}"),
        np("null", "customer.email IS NULL", "~ without an email address"),
        np("null", "customer.email IS NOT NULL", "~ with an email address"),
        np(
            "and",
            "customer.city = '{city}' AND customer.email IS NULL",
            "~ from {city} without an email address",
        ),
        np(
            "or",
            "customer.city = '{city}' OR customer.email IS NULL",
            "~ from {city} or without an email address",
        ),
        np(
            "sub",
            "customer.id IN (SELECT orders.customer_id FROM orders "
            "WHERE strftime('%Y', orders.day) = '{oyear}')",
            "~ with at least one order in {oyear}",
        ),
        np(
            "sub",
            "customer.id IN (SELECT orders.customer_id FROM orders WHERE orders.shipped IS NULL)",
            "~ with an order not yet shipped",
        ),
        np(
            "not_in",
            "customer.id NOT IN (SELECT orders.customer_id FROM orders)",
            "~ without any order",
            "~ who never placed an order",
        ),
        np(
            "not_in",
            "customer.id NOT IN (SELECT orders.customer_id FROM orders "
            "WHERE strftime('%Y', orders.day) = '{oyear}')",
            "~ without an order in {oyear}",
        ),
        np(
            "exists",
            "EXISTS (SELECT 1 FROM orders WHERE orders.customer_id = customer.id "
            "AND orders.day > '{odate}')",
            "~ with an order after {odate}",
        ),
    ),
    pools={
        "attr": (phrase("customer.city", "city"), phrase("customer.email", "email address")),
        "who": (phrase("customer WHERE customer.name = '{customer}'", "the customer {customer}"),),
        "dcol": (noun("customer.city", "home city", "home cities"),),
        "order": (
            phrase("customer.name", "in alphabetical order of name", "sorted by name from A to Z"),
        ),
        "grp": (noun("customer.city", "city", "cities"),),
        "k": values(5, 6, 7, 8, 9, 10),
    },
)

PRODUCT = Entity(
    noun("product", "product", "products"),
    cols=(
        noun("product.name", "name", "names"),
        noun("product.name, product.price", "name and price", "names and prices"),
        noun("product.name, product.stock", "name and stock level", "names and stock levels"),
        noun("product.name, product.category", "name and category", "names and categories"),
    ),
    nps=(
        np("eq", "product.category = '{cat}'", "{cat} ~", "~ in the category {cat}"),
        np("eq", "product.stock = 0", "~ with a stock of 0"),
        np(
            "cmp",
            "product.price > {price}",
            "~ with a price above {price}|~ with prices above {price}",
            "~ costing more than {price}",
        ),
        np(
            "cmp",
            "product.price < {price}",
            "~ with a price below {price}|~ with prices below {price}",
            "~ costing less than {price}",
        ),
        np("cmp", "product.stock > {stock}", "~ with more than {stock} pieces in stock"),
        np("cmp", "product.stock < {stock}", "~ with fewer than {stock} pieces in stock"),
        np("cmp", "product.stock >= {stock}", "~ with at least {stock} pieces in stock"),
        np("between", "product.price BETWEEN {pspan}", "~ with a price {pspan}"),
        np("between", "product.stock BETWEEN {qspan}", "~ with a stock {qspan}"),
        np(
            "like",
            "product.name LIKE '{pstart}%'",
            "~ whose name starts with '{pstart}'|~ whose names start with '{pstart}'",
        ),
        np(
            "like",
            "product.name LIKE '%{pword}%'",
            "~ whose name contains '{pword}'|~ whose names contain '{pword}'",
        ),
        np("in", "product.category IN ('{cat}', '{cat2}')", "{cat} or {cat2} ~"),
        np(
            "and",
            "product.category = '{cat}' AND product.price < {price}",
            "{cat} ~ costing less than {price}",
        ),
        np(
            "and",
            "product.category = '{cat}' AND product.stock > {stock}",
            "{cat} ~ with more than {stock} pieces in stock",
        ),
        np(
            "and",
            "product.price > {price} AND product.stock < {stock}",
            "~ costing more than {price} with fewer than {stock} pieces in stock",
        ),
        np(
            "or",
            "product.price > {price} OR product.stock > {stock}",
            "~ costing more than {price} or with more than {stock} pieces in stock",
        ),
        np(
            "scalar",
            "product.price > (SELECT AVG(product.price) FROM product)",
            "~ costing more than the average product",
            "~ with a price above the average|~ with prices above the average",
        ),
        np(
            "scalar",
            "product.price < (SELECT product.price FROM product WHERE product.name = '{product}')",
            "~ cheaper than the {product}",
            "~ costing less than the {product}",
        ),
        np(
            "scalar",
            "product.price > (SELECT MAX(product.price) FROM product "
            "WHERE product.category = '{cat}')",
            "~ costing more than every {cat} product",
        ),
        np(
            "scalar",
            "product.stock < (SELECT AVG(product.stock) FROM product)",
            "~ with less stock than the average product",
        ),
        np(
            "sub",
            "product.id IN (SELECT item.product_id FROM item WHERE item.quantity > {many})",
            "~ ordered at least once in a quantity above {many}",
        ),
        np(
            "not_in",
            "product.id NOT IN (SELECT item.product_id FROM item)",
            "~ never ordered",
            "~ without any order",
        ),
        np(
            "exists",
            "NOT EXISTS (SELECT 1 FROM item WHERE item.product_id = product.id "
            "AND item.quantity > {many})",
            "~ never ordered in a quantity above {many}",
        ),
    ),
    pools={
        "attr": (
            phrase("product.price", "price"),
            phrase("product.category", "category"),
            phrase("product.stock", "stock level", "number of pieces in stock"),
        ),
        "who": (
            phrase(
                "product WHERE product.name = '{product}'", "the product {product}", "the {product}"
            ),
        ),
        "agg": (
            phrase("AVG(product.price)", "average price", "mean price"),
            phrase("MAX(product.price)", "highest price", "maximum price"),
            phrase("MIN(product.price)", "lowest price", "minimum price"),
            phrase("SUM(product.stock)", "total stock", "total number of pieces in stock"),
            phrase("AVG(product.stock)", "average stock level"),
            phrase("MIN(product.price), MAX(product.price)", "lowest and highest price"),
        ),
        "dcol": (noun("product.category", "category", "categories"),),
        "order": (
            phrase("product.name", "in alphabetical order of name", "sorted by name from A to Z"),
            *sort_keys("product.price", "price", "cheapest first", "most expensive first"),
            *sort_keys(
                "product.stock", "stock level", "smallest stock first", "largest stock first"
            ),
        ),
        "sup": (
            phrase(
                "product.price DESC",
                "# most expensive ~",
                "# ~ with the highest price|# ~ with the highest prices",
            ),
            phrase(
                "product.price",
                "# cheapest ~",
                "# ~ with the lowest price|# ~ with the lowest prices",
            ),
            phrase("product.stock DESC", "# ~ with the most pieces in stock"),
        ),
        "grp": (noun("product.category", "category", "categories"),),
        "hagg": (phrase("AVG(product.price)", "average price"),),
        "level": values(18, 20, 25, 30, 35),
        "k": values(2, 3, 4, 5, 6, 7),
    },
)

ORDER = Entity(
    noun("orders", "order", "orders"),
    cols=(
        noun("orders.id, orders.day", "id and date", "ids and dates"),
        noun("orders.id", "id", "ids"),
        noun("orders.id, orders.shipped", "id and shipping date", "ids and shipping dates"),
    ),
    nps=(
        np("null", "orders.shipped IS NULL", "~ not yet shipped", "~ without a shipping date"),
        np("null", "orders.shipped IS NOT NULL", "~ already shipped", "~ with a shipping date"),
        np("year", "strftime('%Y-%m', orders.day) = '{omonth}'", "~ placed in {omonth}"),
        np("year", "strftime('%Y', orders.day) = '{oyear}'", "~ placed in {oyear}"),
        np("date", "orders.day > '{odate}'", "~ placed after {odate}"),
        np("date", "orders.day < '{odate}'", "~ placed before {odate}"),
        np("between", "orders.day BETWEEN {ospan}", "~ placed {ospan}"),
        np(
            "and",
            "orders.day < '{odate}' AND orders.shipped IS NULL",
            "~ placed before {odate} and not yet shipped",
        ),
        np(
            "join",
            "customer.city = '{city}'",
            "~ placed by a customer from {city}|~ placed by customers from {city}",
            join=ORDER_CUSTOMER,
        ),
        np("join", "customer.name = '{customer}'", "~ placed by {customer}", join=ORDER_CUSTOMER),
        np(
            "join",
            "customer.email IS NULL",
            "~ placed by a customer without an email address|"
            "~ placed by customers without an email address",
            join=ORDER_CUSTOMER,
        ),
    ),
    pools={
        "attr": (phrase("orders.day", "date"), phrase("orders.shipped", "shipping date")),
        "who": (phrase("orders WHERE orders.id = {orderid}", "the order with id {orderid}"),),
        "agg": (
            phrase("MIN(orders.day)", "earliest date"),
            phrase("MAX(orders.day)", "latest date"),
        ),
        "grp": (noun("strftime('%Y', orders.day)", "year", "years"),),
        "k": values(20, 25, 30, 35, 40, 45),
    },
    heads=("list", "lookup", "count", "agg", "group_count", "having_count", "group_most"),
)

ITEM = Entity(
    noun("item", "order item", "order items"),
    cols=(
        noun("item.order_id, item.quantity", "order id and quantity", "order ids and quantities"),
    ),
    nps=(
        np(
            "cmp",
            "item.quantity > {many}",
            "~ with a quantity above {many}",
        ),
        np("join", "product.name = '{product}'", "~ for the {product}", join=ITEM_PRODUCT),
        np(
            "join",
            "product.category = '{cat}'",
            "~ for a {cat} product|~ for {cat} products",
            join=ITEM_PRODUCT,
        ),
        np(
            "join",
            "strftime('%Y', orders.day) = '{oyear}'",
            "~ from an order placed in {oyear}|~ from orders placed in {oyear}",
            join=ITEM_ORDER,
        ),
        np(
            "join3",
            "customer.city = '{city}'",
            "~ bought by a customer from {city}|~ bought by customers from {city}",
            join=f"{ITEM_ORDER} {ORDER_CUSTOMER}",
        ),
        np(
            "join3",
            "product.category = '{cat}' AND strftime('%Y', orders.day) = '{oyear}'",
            "~ for a {cat} product in an order placed in {oyear}|"
            "~ for {cat} products in orders placed in {oyear}",
            join=f"{ITEM_PRODUCT} {ITEM_ORDER}",
        ),
    ),
    pools={
        "agg": (
            phrase("SUM(item.quantity)", "total quantity"),
            phrase("AVG(item.quantity)", "average quantity"),
            phrase("MAX(item.quantity)", "highest quantity"),
        ),
    },
    heads=("count", "agg"),
)

ORDER_WITH_CUSTOMER = Entity(
    noun(f"orders {ORDER_CUSTOMER}", "order", "orders"),
    cols=(
        noun("customer.name, orders.day", "customer name and date", "customer names and dates"),
        noun("orders.id, customer.name", "id and customer name", "ids and customer names"),
    ),
    nps=(
        np("jcols", "orders.shipped IS NULL", "~ not yet shipped"),
        np("jcols", "strftime('%Y-%m', orders.day) = '{omonth}'", "~ placed in {omonth}"),
        np("jcols", "orders.day > '{odate}'", "~ placed after {odate}"),
        np(
            "jcols",
            "customer.city = '{city}'",
            "~ placed by a customer from {city}|~ placed by customers from {city}",
        ),
    ),
    pools={
        "grp": (noun("customer.city", "customer city", "customer cities"),),
        "attr": (phrase("customer.name", "customer name", "name of the customer"),),
        "who": (
            phrase(
                f"orders {ORDER_CUSTOMER} WHERE orders.id = {{orderid}}",
                "the order with id {orderid}",
            ),
        ),
        "k": values(10, 15, 20, 25, 30),
    },
    heads=("list", "lookup", "group_count", "having_count", "group_most"),
)

ITEM_WITH_PRODUCT = Entity(
    noun(f"item {ITEM_PRODUCT}", "order item", "order items"),
    cols=(
        noun(
            "product.name, item.quantity",
            "product name and quantity",
            "product names and quantities",
        ),
        noun(
            "item.order_id, product.name",
            "order id and product name",
            "order ids and product names",
        ),
    ),
    nps=(
        np("jcols", "item.order_id = {orderid}", "~ of order {orderid}"),
        np(
            "jcols",
            "product.price > {price}",
            "~ for a product costing more than {price}|~ for products costing more than {price}",
        ),
        np(
            "jcols",
            "item.quantity > {many}",
            "~ with a quantity above {many}",
        ),
    ),
    pools={
        "grp": (noun("product.category", "product category", "product categories"),),
        "agg": (
            phrase("SUM(item.quantity)", "total quantity"),
            phrase("SUM(item.quantity * product.price)", "total value (quantity times price)"),
        ),
        "hagg": (phrase("SUM(item.quantity)", "total quantity"),),
        "level": values(40, 60, 80, 100),
        "k": values(15, 20, 30, 40, 50),
    },
    heads=("list", "group_count", "group_agg", "having_count", "having_agg", "group_most"),
)

ITEM_WITH_BOTH = Entity(
    noun(f"item {ITEM_PRODUCT} {ITEM_ORDER}", "order item", "order items"),
    cols=(
        noun(
            "product.name, orders.day",
            "product name and order date",
            "product names and order dates",
        ),
        noun(
            "product.name, item.quantity, orders.day",
            "product name, quantity and order date",
            "product names, quantities and order dates",
        ),
    ),
    nps=(
        np("jcols3", "product.category = '{cat}'", "~ for a {cat} product|~ for {cat} products"),
        np(
            "jcols3",
            "item.quantity > {many}",
            "~ with a quantity above {many}",
        ),
        np(
            "jcols3",
            "strftime('%Y-%m', orders.day) = '{omonth}'",
            "~ from an order placed in {omonth}|~ from orders placed in {omonth}",
        ),
    ),
    heads=("list",),
)

PARENTS: tuple[Pools, ...] = (
    {
        "parent": (noun("customer", "customer", "customers"),),
        "kid": (noun("orders.id", "order", "orders"),),
        "par": (
            phrase("", "~"),
            phrase(" WHERE customer.city = '{city}'", "~ from {city}"),
            phrase(" WHERE customer.email IS NOT NULL", "~ with an email address"),
        ),
        "pname": (noun("customer.name", "name", "names"),),
        "pkey": (phrase("customer.id"),),
        "joined": (phrase(f"orders {ORDER_CUSTOMER}"),),
        "left": (phrase("customer LEFT JOIN orders ON orders.customer_id = customer.id"),),
        "kagg": (
            phrase("COUNT(*)", "number of orders", "order count"),
            phrase("MAX(orders.day)", "date of the latest order"),
            phrase("MIN(orders.day)", "date of the first order"),
        ),
        "rank": (phrase("COUNT(*)", "the most orders", "the highest number of orders"),),
        "k": values(2, 3, 4, 5),
    },
    {
        "parent": (noun("product", "product", "products"),),
        "kid": (noun("item.order_id", "order item", "order items"),),
        "par": (
            phrase("", "~"),
            phrase(" WHERE product.category = '{cat}'", "{cat} ~"),
            phrase(" WHERE product.price > {price}", "~ costing more than {price}"),
        ),
        "pname": (noun("product.name", "name", "names"),),
        "pkey": (phrase("product.id"),),
        "joined": (phrase(f"item {ITEM_PRODUCT}"),),
        "left": (phrase("product LEFT JOIN item ON item.product_id = product.id"),),
        "kagg": (
            phrase("COUNT(*)", "number of order items"),
            phrase("SUM(item.quantity)", "total quantity of the order items"),
            phrase("AVG(item.quantity)", "average quantity of the order items"),
        ),
        "rank": (
            phrase("COUNT(*)", "the most order items"),
            phrase("SUM(item.quantity)", "the highest total quantity ordered"),
        ),
        "k": values(4, 5, 6, 7, 8),
    },
)

FAMILIES = (
    Family(
        "buyers_of_product",
        "join_distinct",
        f"SELECT DISTINCT customer.name FROM item {ITEM_ORDER} {ORDER_CUSTOMER} {ITEM_PRODUCT} "
        "WHERE product.{bought}",
        (
            "Which different customers have ordered {bought:s}? Give their names.",
            "List the distinct names of the customers who ordered {bought}.",
            "Show the name of every customer who bought {bought}, each name once.",
            "Who has bought {bought:s}? List every customer name only once.",
        ),
        (
            "Give the names, without duplicates, of the customers with an order for {bought}.",
            "Return each customer name once if the customer purchased {bought}.",
        ),
        (3, 1),
        (
            {
                "bought": (
                    phrase("category = '{cat}'", "a {cat} product|{cat} products"),
                    phrase("name = '{product}'", "the {product}"),
                )
            },
        ),
    ),
    Family(
        "categories_of_month",
        "join_distinct",
        f"SELECT DISTINCT product.category FROM item {ITEM_PRODUCT} {ITEM_ORDER} "
        "WHERE strftime('%Y-%m', orders.day) = '{omonth}'",
        (
            "Which different product categories were ordered in {omonth}?",
            "List the distinct categories of the products ordered in {omonth}.",
            "Show every product category once that was part of an order in {omonth}.",
        ),
        ("Return, without duplicates, the categories of the products sold in {omonth}.",),
        (2, 0),
    ),
    Family(
        "stock_value",
        "arithmetic",
        "SELECT product.name, product.price * product.stock FROM product "
        "WHERE product.category = '{cat}'",
        (
            "What is the stock of each {cat} product worth? Show the name and price times stock.",
            "Show the name and the stock value (price times stock) of every {cat} product.",
            "Give the name of each {cat} product and its price multiplied by its stock.",
            "List the names of the {cat} products with the value of the stock, that is price times "
            "stock.",
        ),
        ("For the {cat} products, return the name and the price times the pieces in stock.",),
        (2, 1),
    ),
    Family(
        "other_price",
        "arithmetic",
        "SELECT product.name, product.price * {off} FROM product WHERE product.category = '{cat}'",
        (
            "Show the name and {off} of every {cat} product.",
            "What is {off} for each {cat} product? Give the name and the result.",
            "List the names of the {cat} products together with {off} of each.",
        ),
        ("For the {cat} products, return the name and {off}.",),
        (2, 0),
    ),
    Family(
        "order_value",
        "arithmetic",
        f"SELECT SUM(item.quantity * product.price) FROM item {ITEM_PRODUCT} "
        "WHERE item.order_id = {orderid}",
        (
            "What is the total value of order {orderid}, that is the sum of quantity times price?",
            "Give the sum of quantity times price over the items of order {orderid}.",
            "How much did order {orderid} cost in total (quantity times price, summed up)?",
        ),
        ("Add up quantity times price for the items in order {orderid}.",),
        (2, 0),
    ),
)

COMBOS = (
    Combo(
        "How many kitchen products have more than 50 pieces in stock and a price below 20?",
        "SELECT COUNT(*) FROM product WHERE category = 'kitchen' AND stock > 50 AND price < 20",
    ),
    Combo(
        "How many orders placed by customers from Denver or Austin are not yet shipped?",
        f"SELECT COUNT(*) FROM orders {ORDER_CUSTOMER} "
        "WHERE customer.city IN ('Denver', 'Austin') AND orders.shipped IS NULL",
    ),
    Combo(
        "Of the products never ordered, which two are the most expensive? Give name and price.",
        "SELECT name, price FROM product WHERE id NOT IN (SELECT product_id FROM item) "
        "ORDER BY price DESC LIMIT 2",
    ),
    Combo(
        "Which customer city has the most orders placed in 2023?",
        f"SELECT customer.city FROM orders {ORDER_CUSTOMER} "
        "WHERE strftime('%Y', orders.day) = '2023' "
        "GROUP BY customer.city ORDER BY COUNT(*) DESC LIMIT 1",
    ),
    Combo(
        "How many different customers placed an order after 2024-02-01?",
        "SELECT COUNT(DISTINCT customer_id) FROM orders WHERE day > '2024-02-01'",
    ),
    Combo(
        "List the product name and price of the items in order 12, cheapest first.",
        f"SELECT product.name, product.price FROM item {ITEM_PRODUCT} "
        "WHERE item.order_id = 12 ORDER BY product.price",
    ),
    Combo(
        "Which garden products cost more than the average product? Give their names.",
        "SELECT name FROM product WHERE category = 'garden' "
        "AND price > (SELECT AVG(price) FROM product)",
    ),
)


def domain() -> Domain:
    """Return the shop with its rows and its vocabulary."""
    rows = _rows()
    return Domain(
        "shop",
        SCHEMA,
        rows,
        _pools(rows),
        (
            CUSTOMER,
            PRODUCT,
            ORDER,
            ITEM,
            ORDER_WITH_CUSTOMER,
            ITEM_WITH_PRODUCT,
            ITEM_WITH_BOTH,
        ),
        PARENTS,
        FAMILIES,
        COMBOS,
    )
