from click import Group

cli: Group
