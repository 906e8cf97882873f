def tick(request):
    return 'ok'
