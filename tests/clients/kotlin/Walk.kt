/** What an app does, with the generated Kotlin client against a real service: the address is the first argument. */
import java.time.LocalDate
import java.time.OffsetDateTime
import java.util.UUID
import org.openapitools.client.apis.AccountsApi
import org.openapitools.client.apis.AuthApi
import org.openapitools.client.apis.BatchApi
import org.openapitools.client.apis.ChangesApi
import org.openapitools.client.apis.GymsApi
import org.openapitools.client.apis.NotebooksApi
import org.openapitools.client.apis.NotesApi
import org.openapitools.client.infrastructure.ApiClient
import org.openapitools.client.infrastructure.ClientError
import org.openapitools.client.infrastructure.ClientException
import org.openapitools.client.infrastructure.Serializer
import org.openapitools.client.models.BatchArguments
import org.openapitools.client.models.BatchRequest
import org.openapitools.client.models.BatchRequestMethod
import org.openapitools.client.models.GymCreate
import org.openapitools.client.models.GymInc
import org.openapitools.client.models.GymKind
import org.openapitools.client.models.GymMood
import org.openapitools.client.models.GymPatch
import org.openapitools.client.models.LoginArguments
import org.openapitools.client.models.MachineCreate
import org.openapitools.client.models.MachineState
import org.openapitools.client.models.NoteCreate
import org.openapitools.client.models.NoteInc
import org.openapitools.client.models.NotePatch
import org.openapitools.client.models.NotePush
import org.openapitools.client.models.NoteSort
import org.openapitools.client.models.NoteTagsPushed
import org.openapitools.client.models.NoteUnset
import org.openapitools.client.models.NotebookCreate
import org.openapitools.client.models.Point
import org.openapitools.client.models.PointType
import org.openapitools.client.models.Problem
import org.openapitools.client.models.RefreshArguments
import org.openapitools.client.models.SignUp

fun refused(call: () -> Unit): Pair<Int, Problem> {
    try {
        call()
    } catch (error: ClientException) {
        val told = error.response as ClientError<*>
        return error.statusCode to Serializer.gson.fromJson(told.body as String, Problem::class.java)
    }
    throw AssertionError("it was not refused")
}

fun main(arguments: Array<String>) {
    val base = arguments[0]
    val accounts = AccountsApi(base)
    val auth = AuthApi(base)
    val notes = NotesApi(base)
    val gyms = GymsApi(base)
    val password = "correct horse battery"
    val name = "ada-" + UUID.randomUUID().toString().take(8)

    // Sign up and log in.
    val account = accounts.signUp(SignUp(username = name, password = password))
    check(account.username == name)
    val tokens = auth.logIn(LoginArguments(username = name, password = password, device = "walk"))
    ApiClient.accessToken = tokens.accessToken

    // Create, with a key; sent again, it is done once.
    val key = UUID.randomUUID().toString()
    val bread = NoteCreate(title = "Bread", priority = 1, place = Point(PointType.Point, listOf(127.0, 37.5)))
    val made = notes.createNote(bread, idempotencyKey = key)
    val again = notes.createNoteWithHttpInfo(bread, null, key)
    check(notes.createNote(bread, idempotencyKey = key) == made)
    check(again.headers["idempotent-replayed"] == listOf("true"))

    // List with `where`, and what a reference points to.
    val book = NotebooksApi(base).createNotebook(NotebookCreate(title = "Kitchen"))
    notes.changeNote(made.id, NotePatch(notebook = book.id))
    val page = notes.listNotes(
        `where` = """{"title": "Bread"}""",
        sort = NoteSort.PRIORITY_DESCENDING_DUE_ASCENDING,
        expand = "notebook",
        scope = "mine",
    )
    val item = page.items.single()
    check(item.id == made.id && item.notebook == book.id && item.expanded?.notebook == book)

    // Operators, also to clear a field; and a change that was made on what is no longer there.
    val push = NotePush(tags = NoteTagsPushed(each = listOf("home")))
    val unset = listOf(NoteUnset.place)
    val counted = notes.changeNote(
        made.id,
        NotePatch(dollarInc = NoteInc(priority = 2), dollarPush = push, dollarUnset = unset),
    )
    check(counted.priority == 3 && counted.tags == listOf("home") && counted.place == null)
    val (status, late) = refused { notes.changeNote(made.id, NotePatch(title = "Late"), ifMatch = "\"${made.revision}\"") }
    check(status == 412 && late.code == "revision_mismatch")

    // A type of somebody's own: every kind of value comes back as it was sent.
    val gym = GymCreate(
        name = "Yard",
        kind = GymKind._24Slash7,
        level = 2,
        mood = GymMood.GOOD,
        members = 9007199254740993,
        steps = "9007199254740993",
        rating = 4.5,
        fee = "12.50",
        opened = LocalDate.of(2026, 11, 22),
        serviced = OffsetDateTime.parse("2026-11-22T10:00:00.5+09:00"),
        serial = UUID.randomUUID(),
        corner = listOf(127.0, 37.5),
        hours = mapOf("mo" to "6-22"),
        extra = mapOf("any" to listOf("thing", null)),
        machines = listOf(MachineCreate(name = "rower", weightKg = 30.5, state = MachineState.worn_out)),
    )
    val stored = gyms.createGym(gym)
    check(listOf(stored.kind, stored.level, stored.mood) == listOf(gym.kind, gym.level, gym.mood))
    check(listOf(stored.members, stored.rating, stored.fee) == listOf(gym.members, gym.rating, gym.fee))
    check(stored.opened == gym.opened && stored.serial == gym.serial && stored.corner == gym.corner)
    check(stored.serviced!!.toInstant() == gym.serviced!!.toInstant())
    check(stored.steps == gym.steps)
    check(stored.hours == gym.hours && stored.extra == gym.extra)
    check(stored.machines.single().weightKg == 30.5 && stored.machines.single().state == MachineState.worn_out)
    val more = gyms.changeGym(stored.id, GymPatch(dollarInc = GymInc(members = 9007199254740993, rating = 0.25)))
    check(more.members == 18014398509481986 && more.rating == 4.75)

    // Many at once.
    val change = BatchRequest(BatchRequestMethod.PATCH, "/v1/notes/${made.id}", body = NotePatch(title = "Rye"))
    val missing = BatchRequest(BatchRequestMethod.GET, "/v1/notes/none")
    val batch = BatchApi(base).sendBatch(BatchArguments(requests = listOf(change, missing)))
    check(batch.responses.map { it.status } == listOf(200, 404))

    // What has changed, and what has changed since.
    val changes = ChangesApi(base).listChanges(types = "notes")
    val changed = changes.items.single()
    check(changed.type == "notes" && changed.id == made.id && changed.record!!["title"] == "Rye")
    check(ChangesApi(base).listChanges(types = "notes", cursor = changes.cursor).items.isEmpty())

    // Refresh, go on with the new tokens, log out.
    ApiClient.accessToken = auth.refreshTokens(RefreshArguments(refreshToken = tokens.refreshToken)).accessToken
    check(accounts.getOwnAccount().id == account.id)
    check(accounts.exportOwnAccount().notes.single().title == "Rye")
    notes.deleteNote(made.id)
    auth.logOut()
    check(refused { notes.listNotes() }.second.code == "not_authenticated")
    println("done")
}
