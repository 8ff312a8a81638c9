"""What a refusal says (reference: rest-and-websocket-api.md 2.1, 3, 4), by the check that fails. What is not here is
403 "Access is denied". {device}, {network}, {type}, {user}, {name}, {owner}: as the caller named them."""

DENIED = (403, "Access is denied")
ALL = " of all"
"""Of a check: its refusal for those who see everything, or are an administrator (" of admins")."""
ADMINS = " of admins"
REFUSALS: dict[str, tuple[int, str]] = {
    "token": (401, "Unauthorized"),
    "lifetime": (401, "Token expired"),
    "credentials": (400, "Invalid or empty authorization request parameters"),
    "refresh_type": (401, "Invalid token type"),
    "refresh_lifetime": (401, "Token has expired"),
    "refresh_user": (401, "Unauthorized"),
    "user": (404, "User with id = {user} not found"),
    "is_active": (403, "User is locked or disabled"),
    "device" + ALL: (404, "Device with such deviceId = {device} not found"),
    "own_device": (403, "No access to device"),
    "unblocked": (403, "Device is blocked"),
    "removable": (403, "Device is blocked"),
    "network": (404, "Network with id = {network} not found"),
    "type": (404, "Device type with id = {type} not found"),
    "place" + ADMINS: (404, "Networks with such networkIds wasn't found: {{[{network}]}}"),
    "kind" + ADMINS: (404, "Device types with such deviceTypeIds wasn't found: {{[{type}]}}"),
    "somewhere": (403, "No access to any device type or network"),
    "into_network": (403, "No access to network!"),
    "into_type": (403, "No access to device type!"),
    "exists": (400, "Invalid request parameters"),
    "new_user": (403, "Admin permissions required for this action"),
    "not_oneself": (403, "You can not delete a user or access key that you use to authenticate this request"),
    "member": (404, "Network with id {network} for user with id {user} was not found"),
    "typed": (404, "Device type with id {type} for user with id {user} not found"),
    "limited": (403, "Cannot assign device type to user with all device types allowed"),
    "configuration": (404, "Requested config with name = {name} not found in the database"),
    "filtered_network" + ALL: (404, "Networks with such networkIds wasn't found: {{[{network}]}}"),
    "filtered_type" + ALL: (404, "Device types with such deviceTypeIds wasn't found: {{[{type}]}}"),
    "owner": (403, "No access to plugin"),
    "plugin": (403, "No access to plugin"),
    "plugin" + ADMINS: (404, "Plugin is not found"),
    "shown_plugin": (404, "Plugin is not found"),
    "user_token": (401, "Unauthorized"),
    "creator": (403, "No permisions or invalid topic name"),
    "exactly_creator": (403, "User with id {owner} is not a plugin creator"),
    "grant_plugin": (401, "Plugin is not found"),
}


def refusal(check: str, is_admin: bool, sees_everything: bool) -> tuple[int, str]:
    keys = [check + ALL] * sees_everything + [check + ADMINS] * is_admin + [check]
    return next((REFUSALS[key] for key in keys if key in REFUSALS), DENIED)
