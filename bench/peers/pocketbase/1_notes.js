/// Notes in PocketBase, as its documentation shows it: a collection with rules, and the index that its list needs.
migrate((app) => {
  const users = app.findCollectionByNameOrId("users")
  const id = users.fields.getByName("id")
  id.min = 24
  id.max = 24
  id.autogeneratePattern = "[a-z0-9]{24}"
  app.save(users)

  const own = "owner = @request.auth.id"
  const notes = new Collection({
    type: "base",
    name: "notes",
    listRule: own,
    viewRule: own,
    createRule: "@request.auth.id != '' && " + own,
    updateRule: own,
    deleteRule: own,
    fields: [
      {
        name: "id", type: "text", system: true, primaryKey: true, required: true,
        min: 24, max: 24, pattern: "^[a-z0-9]+$", autogeneratePattern: "[a-z0-9]{24}",
      },
      { name: "owner", type: "relation", collectionId: users.id, maxSelect: 1, required: true, cascadeDelete: true },
      { name: "title", type: "text", required: true, max: 200 },
      { name: "body", type: "text", max: 100000 },
      { name: "tags", type: "json", maxSize: 2000 },
      { name: "pinned", type: "bool" },
      { name: "priority", type: "number", min: 0, max: 5, onlyInt: true },
      { name: "due", type: "date" },
      { name: "place", type: "json", maxSize: 200 },
      { name: "checklist", type: "json", maxSize: 30000 },
      { name: "created", type: "autodate", onCreate: true },
      { name: "updated", type: "autodate", onCreate: true, onUpdate: true },
    ],
    indexes: ["CREATE INDEX newest ON notes (owner, updated DESC, id DESC)"],
  })
  app.save(notes)
}, (app) => {
  app.delete(app.findCollectionByNameOrId("notes"))
})
