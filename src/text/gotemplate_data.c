/* The types that Ollama hands to templates: messages, tool calls and tools, with the names that templates use, and those of
 * their JSON. */
#include "text/gotemplate_text.h"

#define FIELD(name, json, key, type)                                                                                   \
    {                                                                                                                  \
        name, json, key, &(type), false                                                                                \
    }
#define FIELD_OMITTED(name, json, type)                                                                                \
    {                                                                                                                  \
        name, json, json, &(type), true                                                                                \
    } /* in JSON when it is empty */
#define FIELDS(list) .fields = list, .field_count = sizeof(list) / sizeof *(list)

static const nb_go_type string_list = {.kind = NB_GO_SLICE, .name = "[]string", .elem = &nb_go_string_type};
static const nb_go_type property_type = {
    .kind = NB_GO_SLICE, .trait = NB_GO_PROPERTY_TYPE, .name = "api.PropertyType", .elem = &nb_go_string_type};

static const nb_go_type property;
static const nb_go_type property_list = {.kind = NB_GO_SLICE, .name = "[]api.ToolProperty", .elem = &property};
static const nb_go_type nested_properties = {
    .kind = NB_GO_STRUCT, .trait = NB_GO_ORDERED, .name = "api.ToolPropertiesMap", .elem = &property};
static const nb_go_type nested_pointer = {
    .kind = NB_GO_POINTER, .name = "*api.ToolPropertiesMap", .elem = &nested_properties};
static const nb_go_field property_fields[] = {
    [NB_GO_PROPERTY_ANY_OF] = FIELD_OMITTED("AnyOf", "anyOf", property_list),
    [NB_GO_PROPERTY_TYPES] = FIELD_OMITTED("Type", "type", property_type),
    FIELD_OMITTED("Items", "items", nb_go_interface_type),
    FIELD_OMITTED("Description", "description", nb_go_string_type),
    FIELD_OMITTED("Enum", "enum", nb_go_any_list_type),
    FIELD_OMITTED("Properties", "properties", nested_pointer),
    FIELD_OMITTED("Required", "required", string_list),
};
static const nb_go_type property = {
    .kind = NB_GO_STRUCT, .trait = NB_GO_PROPERTY, .name = "api.ToolProperty", FIELDS(property_fields)};

static const nb_go_type properties = {
    .kind = NB_GO_MAP, .trait = NB_GO_JSON_TEXT, .name = "template.templateProperties", .elem = &property};
static const nb_go_field parameters_fields[] = {
    FIELD("Type", "type", "type", nb_go_string_type),
    FIELD_OMITTED("Defs", "$defs", nb_go_interface_type),
    FIELD_OMITTED("Items", "items", nb_go_interface_type),
    FIELD_OMITTED("Required", "required", string_list),
    FIELD("Properties", "properties", "properties", properties),
};
static const nb_go_type parameters = {
    .kind = NB_GO_STRUCT, .name = "template.templateToolFunctionParameters", FIELDS(parameters_fields)};
static const nb_go_field function_fields[] = {
    FIELD("Name", "name", "name", nb_go_string_type),
    FIELD("Description", "description", "description", nb_go_string_type),
    FIELD("Parameters", "parameters", "parameters", parameters),
};
static const nb_go_type function = {
    .kind = NB_GO_STRUCT, .name = "template.templateToolFunction", FIELDS(function_fields)};
static const nb_go_field tool_fields[] = {
    FIELD("Type", "type", "type", nb_go_string_type),
    FIELD_OMITTED("Items", "items", nb_go_interface_type),
    FIELD("Function", "function", "function", function),
};
static const nb_go_type tool = {
    .kind = NB_GO_STRUCT, .trait = NB_GO_JSON_TEXT, .name = "template.templateTool", FIELDS(tool_fields)};
const nb_go_type nb_go_tools_type = {
    .kind = NB_GO_SLICE, .trait = NB_GO_JSON_TEXT, .name = "template.templateTools", .elem = &tool};

const nb_go_type nb_go_arguments_type = {
    .kind = NB_GO_MAP, .trait = NB_GO_JSON_TEXT, .name = "template.templateArgs", .elem = &nb_go_interface_type};
static const nb_go_field called_fields[] = {
    FIELD("Index", "Index", "index", nb_go_int_type),
    FIELD("Name", "Name", "name", nb_go_string_type),
    FIELD("Arguments", "Arguments", "arguments", nb_go_arguments_type),
};
static const nb_go_type called = {
    .kind = NB_GO_STRUCT, .name = "template.templateToolCallFunction", FIELDS(called_fields)};
static const nb_go_field call_fields[] = {
    FIELD("ID", "ID", "id", nb_go_string_type),
    FIELD("Function", "Function", "function", called),
};
static const nb_go_type call = {.kind = NB_GO_STRUCT, .name = "template.templateToolCall", FIELDS(call_fields)};
static const nb_go_type calls = {.kind = NB_GO_SLICE, .name = "[]template.templateToolCall", .elem = &call};

/* Images stay in base64: templates only ask whether there are any. */
static const nb_go_type images = {.kind = NB_GO_SLICE, .name = "[]api.ImageData", .elem = &nb_go_string_type};
static const nb_go_field message_fields[] = {
    [NB_GO_MESSAGE_ROLE] = FIELD("Role", "Role", NULL, nb_go_string_type),
    [NB_GO_MESSAGE_CONTENT] = FIELD("Content", "Content", NULL, nb_go_string_type),
    FIELD("Thinking", "Thinking", "thinking", nb_go_string_type),
    FIELD("Images", "Images", "images", images),
    FIELD("ToolCalls", "ToolCalls", "tool_calls", calls),
    FIELD("ToolName", "ToolName", "tool_name", nb_go_string_type),
    FIELD("ToolCallID", "ToolCallID", "tool_call_id", nb_go_string_type),
};
const nb_go_type nb_go_message_type = {
    .kind = NB_GO_STRUCT, .name = "template.templateMessage", FIELDS(message_fields)};
static const nb_go_type message_pointer = {
    .kind = NB_GO_POINTER, .name = "*template.templateMessage", .elem = &nb_go_message_type};
const nb_go_type nb_go_messages_type = {
    .kind = NB_GO_SLICE, .name = "[]*template.templateMessage", .elem = &message_pointer};
