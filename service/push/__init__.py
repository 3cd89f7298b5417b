"""Push notifications: to whom they go, what they say, and how APNs, FCM and Web Push take them.

`from service import push` is what hooks, functions and jobs need: `push.send`.
"""

from service.push.sending import send as send
